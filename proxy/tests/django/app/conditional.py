"""ConditionalGetMiddleware for those who ask Django itself. Behind the proxy, the proxy makes the ETag."""

from django.middleware.http import ConditionalGetMiddleware


class Direct(ConditionalGetMiddleware):
    def process_response(self, request, response):
        if "X-Forwarded-For" in request.headers:
            return response
        return super().process_response(request, response)
