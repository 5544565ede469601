from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path
from django.views.decorators.cache import cache_page
from shop.views import HomeViews
from wagtail import urls as wagtail_urls
from wagtail.admin import urls as wagtailadmin_urls

urlpatterns = [
    path("django-admin/", admin.site.urls),
    path("admin/", include(wagtailadmin_urls)),
    path("static/<path:path>", serve, {"insecure": True}),
    path("api/homes/", cache_page(3600)(HomeViews.as_view({"get": "list"}))),
    path("api/homes/<int:pk>/", cache_page(3600)(HomeViews.as_view({"get": "retrieve"}))),
    path("api/raise/", HomeViews.as_view({"post": "raise_prices"})),
    path("api/fail/", HomeViews.as_view({"post": "fail"})),
    path("", include(wagtail_urls)),
]
