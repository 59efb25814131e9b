// Parts of the page are fetched again and again. This keeps that out of people's way.
"use strict";
(() => {
  let pressed = false;
  const press = (value) => () => { pressed = value; };
  addEventListener("pointerdown", press(true), true);
  for (const end of ["pointerup", "pointercancel", "blur"]) {
    addEventListener(end, press(false), true);
  }
  addEventListener("keydown", (event) => { if (event.key === " ") pressed = true; }, true);
  addEventListener("keyup", press(false), true);

  // A button that is being pressed is not replaced: the click would be lost. The next fetch brings the news.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (pressed) event.detail.shouldSwap = false;
  });

  // A tab that nobody looks at asks nothing.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
})();
