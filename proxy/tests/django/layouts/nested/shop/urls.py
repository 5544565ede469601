from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from django.views.generic import FormView, TemplateView, View


@method_decorator(cache_page(120), name="dispatch")
class Offers(View):
    def get(self, request):
        return HttpResponse()


class Prices(View):
    @method_decorator(cache_page(30))
    def get(self, request, **kwargs):
        return HttpResponse()


urlpatterns = [
    path("offers/", Offers.as_view()),
    path("prices/<slug:kind>/", Prices.as_view()),
    path("prices/<slug:kind>/all/", cache_page(30)(Prices.as_view())),
    path("contact/", FormView.as_view()),
    path("imprint/", TemplateView.as_view()),
]
