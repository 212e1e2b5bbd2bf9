"""A typical Django API in one file: settings, one view, routes.

It trusts a token server through djangorestframework-simplejwt alone. It prints the
address it listens on and answers GET /orders with the subject of the caller's token.

    SERVICE_ISSUER    the token server
    SERVICE_AUDIENCE  the name of this API there
    SERVICE_BARE      set: neither issuer nor audience is configured
    SERVICE_LIFESPAN  seconds that the key set is cached; unset: simplejwt's own 300
"""

import os
import socketserver
from wsgiref import simple_server

import django
from django.conf import settings

ISSUER = os.environ["SERVICE_ISSUER"]
JWK_URL = ISSUER + "/.well-known/jwks.json"

settings.configure(
    SECRET_KEY="signs nothing here: tokens come from the token server",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [
            # Stateless: a client's token belongs to no row of the user table.
            "rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"
        ],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
    SIMPLE_JWT={
        "ALGORITHM": "RS256",
        "JWK_URL": JWK_URL,
        "USER_ID_CLAIM": "sub",
        # Each is checked only if it is set.
        **({} if "SERVICE_BARE" in os.environ else {"AUDIENCE": os.environ["SERVICE_AUDIENCE"], "ISSUER": ISSUER}),
    },
)
django.setup()

# After setup, because these modules read the settings when they are imported.
from django.urls import path  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from jwt import PyJWKClient  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework_simplejwt.state import token_backend  # noqa: E402

if "SERVICE_LIFESPAN" in os.environ:
    # There is no setting for the lifespan of the cache, so the client is replaced.
    token_backend.jwks_client = PyJWKClient(JWK_URL, lifespan=int(os.environ["SERVICE_LIFESPAN"]))


class Orders(APIView):
    def get(self, request):
        return Response({"sub": request.user.id})


urlpatterns = [path("orders", Orders.as_view())]


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class QuietHandler(simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = simple_server.make_server(
        "127.0.0.1", 0, get_wsgi_application(), server_class=Server, handler_class=QuietHandler
    )
    print(f"http://127.0.0.1:{server.server_port}/orders", flush=True)
    server.serve_forever()
