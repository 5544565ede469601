from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.urls import path, re_path
from django.views.decorators.cache import cache_page, never_cache
from django.views.decorators.vary import vary_on_headers


def view(request, *args, **kwargs):
    return HttpResponse()


pages = cache_page(300, cache="pages", key_prefix="p")

urlpatterns = [
    path("", pages(view)),
    path("homes/", vary_on_headers("Accept")(pages(view))),
    path("homes/new/", login_required(view)),
    path("homes/<int:pk>/", pages(view)),
    path("homes/<int:pk>/edit/", login_required(view)),
    re_path(r"^news/(?P<year>\d{4})/$", cache_page(60 * 60, cache="pages")(view)),
    re_path(r"^feed\.xml$", cache_page(60, cache="default")(view)),
    path("about/", view),
    path("cart/", never_cache(view)),
    path("account/", login_required(view)),
]
