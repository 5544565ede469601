"""Real Django: one page behind cache_page, in Redis, as gunicorn serves it."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.cache import cache_page

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["BENCH_REDIS"],
        }
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY="of no use to anybody",
)


def page(request):
    body = b"x" * int(os.environ["BENCH_SIZE"])
    # With a length, as CommonMiddleware gives it one.
    return HttpResponse(body, content_type="application/json", headers={"Content-Length": len(body)})


urlpatterns = [path("page", cache_page(86400)(page)), path("pass", page)]
application = get_wsgi_application()
