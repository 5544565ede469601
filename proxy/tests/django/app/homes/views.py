from rest_framework import generics, serializers

from .models import Home


class HomeSerializer(serializers.ModelSerializer):
    class Meta:
        model = Home
        fields = ["id", "title", "price", "created_at"]


class HomeList(generics.ListAPIView):
    queryset = Home.objects.order_by("-created_at", "id")
    serializer_class = HomeSerializer
