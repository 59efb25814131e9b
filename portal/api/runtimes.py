"""Runtimes and what is asked of them."""

from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404
from django.urls import path
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.context import Actor
from portal.api.parsing import BoundedJSONParser
from provisioning.models import Operation, Runtime, Step
from provisioning.selectors import operations_for, runtimes_for
from provisioning.services import OperationRefused, PermissionRefused, operation_request


class NewestFirst(CursorPagination):
    """Pages of what was made last; a cursor that we did not give is a 404."""

    ordering = ("-created_at", "-pk")

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """One page."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValidationError, ValueError):
            raise NotFound(self.invalid_cursor_message) from None


class StepSerializer(serializers.ModelSerializer[Step]):
    class Meta:
        model = Step
        fields = ("name", "state", "detail", "started_at", "finished_at")


class OperationSerializer(serializers.ModelSerializer[Operation]):
    steps = StepSerializer(many=True, read_only=True)

    class Meta:
        model = Operation
        fields = (
            "id",
            "runtime",
            "kind",
            "state",
            "wait_reason",
            "error_code",
            "error_message",
            "created_at",
            "finished_at",
            "steps",
        )


class RuntimeSerializer(serializers.ModelSerializer[Runtime]):
    tenant = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    engine = serializers.CharField(source="host.engine", default=None)

    class Meta:
        model = Runtime
        fields = ("id", "tenant", "phase", "power", "engine", "vcpus", "memory_mib", "disk_gib", "created_at")


class OperationRequest(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=Operation.Kind.choices)
    reason = serializers.CharField(max_length=500, default="", allow_blank=True)


class RuntimeList(ListAPIView[Runtime]):
    """The runtimes that the caller may know of."""

    serializer_class = RuntimeSerializer
    pagination_class = NewestFirst

    def get_queryset(self) -> Any:
        return runtimes_for(self.request.user)


class RuntimeDetail(RetrieveAPIView[Runtime]):
    """One runtime; 404 for somebody else's."""

    serializer_class = RuntimeSerializer

    def get_queryset(self) -> Any:
        return runtimes_for(self.request.user)


class OperationDetail(RetrieveAPIView[Operation]):
    """One operation with its steps; 404 for somebody else's."""

    serializer_class = OperationSerializer

    def get_queryset(self) -> Any:
        return operations_for(self.request.user)


class RuntimeOperations(APIView):
    """Ask for an operation."""

    parser_classes = (BoundedJSONParser,)

    def post(self, request: Request, pk: str) -> Response:
        """201 with the operation; 403 or 409 with the reason."""
        runtime = runtimes_for(request.user).filter(pk=pk).first()
        if runtime is None or not request.user.is_authenticated:
            raise Http404
        wanted = OperationRequest(data=request.data)
        wanted.is_valid(raise_exception=True)
        try:
            operation = operation_request(
                actor=Actor.of(request.user), runtime_id=runtime.pk, **wanted.validated_data
            )
        except PermissionRefused as error:
            return Response({"detail": " ".join(error.messages)}, status.HTTP_403_FORBIDDEN)
        except OperationRefused as error:
            return Response({"detail": " ".join(error.messages)}, status.HTTP_409_CONFLICT)
        return Response(OperationSerializer(operation).data, status.HTTP_201_CREATED)


urlpatterns = [
    path("runtimes/", RuntimeList.as_view(), name="api-runtimes"),
    path("runtimes/<uuid:pk>/", RuntimeDetail.as_view(), name="api-runtime"),
    path("runtimes/<uuid:pk>/operations/", RuntimeOperations.as_view(), name="api-runtime-operations"),
    path("operations/<uuid:pk>/", OperationDetail.as_view(), name="api-operation"),
]
