from cachepage import TaggedMixin
from django.db.models import F
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import ReadOnlyModelViewSet
from shop.models import Home


class HomeSerializer(ModelSerializer):
    class Meta:
        model = Home
        fields = ["title", "price"]


class HomeViews(TaggedMixin, ReadOnlyModelViewSet):
    queryset = Home.objects.order_by("pk")
    serializer_class = HomeSerializer

    def raise_prices(self, request):
        return Response(Home.objects.update(price=F("price") + 1))

    def fail(self, request):
        Home.objects.update(price=0)
        home = Home.objects.first()
        home.title = "never committed"
        home.save()
        raise ArithmeticError("the transaction is rolled back")
