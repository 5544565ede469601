from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ViewSet


class Homes(ViewSet):
    @method_decorator(cache_page(90))
    def list(self, request):
        return Response([])

    def retrieve(self, request, pk):
        return Response({})


class Orders(ViewSet):
    permission_classes = [IsAuthenticated]

    def list(self, request):
        return Response([])


router = SimpleRouter()
router.register("homes", Homes, "home")
router.register("orders", Orders, "order")
urlpatterns = router.urls
