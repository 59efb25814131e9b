"""What Django answers on a runtime's origin: nothing but the two ends of the way there."""

from django.urls import path

from portal import routing_views

urlpatterns = [
    path(".portal/enter", routing_views.enter, name="route-enter"),
    path(".portal/authorize", routing_views.authorize, name="route-authorize"),
]
