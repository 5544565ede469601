"""A page of each kind of view."""

from django.contrib import admin
from django.http import HttpResponse, HttpResponseNotFound
from django.urls import path
from django.views.generic import DetailView, ListView, View

from cachepage import TaggedMixin, add_tags, tagged
from tests.models import Agent, Cheap, Home
from tests.settings import HAS_DRF

admin.site.register(Home)


@tagged(Agent, "front-page")
def plain(request):
    return HttpResponse("plain")


@tagged(Agent)
async def awaited(request):
    return HttpResponse("awaited")


@tagged(pk=Home)
def one_home(request, pk):
    return HttpResponse(f"home {pk}")


def some_homes(request, number):
    return add_tags(HttpResponse(), *(Home(pk=key) for key in range(number)))


class HomeList(TaggedMixin, ListView):
    model = Cheap
    shows = (Agent,)

    def render_to_response(self, context):
        return HttpResponse("list")


class HomeDetail(TaggedMixin, DetailView):
    queryset = Home.objects.all()

    def render_to_response(self, context):
        return HttpResponse(self.object.title)


class Missing(TaggedMixin, View):
    shows = (Home,)

    def get(self, request):
        return HttpResponseNotFound()


class AwaitedClass(TaggedMixin, View):
    shows = (Home,)

    async def get(self, request):
        return HttpResponse()


urlpatterns = [
    path("admin/", admin.site.urls),
    path("plain/", plain),
    path("awaited/", awaited),
    path("homes/<int:pk>/", one_home),
    path("some/<int:number>/", some_homes),
    path("list/", HomeList.as_view()),
    path("detail/<int:pk>/", HomeDetail.as_view()),
    path("missing/", Missing.as_view()),
    path("awaited-class/", AwaitedClass.as_view()),
]

if HAS_DRF:
    from rest_framework import serializers, viewsets

    class HomeSerializer(serializers.ModelSerializer):
        class Meta:
            model = Home
            fields = ["title"]

    class HomeViews(TaggedMixin, viewsets.ModelViewSet):
        serializer_class = HomeSerializer
        shows = (Agent,)

        def get_queryset(self):
            return Home.objects.order_by("pk")

    urlpatterns += [
        path("api/", HomeViews.as_view({"get": "list"})),
        path("api/<int:pk>/", HomeViews.as_view({"get": "retrieve"})),
    ]
