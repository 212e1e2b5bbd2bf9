"""A Django project as its team would write it, in one file: settings, routes, one view.

    project.py prepare              creates the database and its users
    project.py serve                prints its address and serves until it is killed
    project.py disable NAME         as Django's admin pages do
    project.py enable NAME
    project.py passwd NAME          gives the user a random password
    project.py remove NAME
    project.py expired NAME         prints expired tokens of the user
    project.py dumpdata auth.user   Django's own commands, on that database

Its tokens come from simplejwt's own views. If PROJECT_ISSUER is set they come from the token
server, and the project only verifies them with the key set there.

    PROJECT_DATABASE  path of the SQLite file
    PROJECT_ISSUER    the token server; unset: none
    PROJECT_AUDIENCE  the name of this API there
    PROJECT_USER_ID   the field of the user table that user_id names; unset: id
    PROJECT_PEOPLE    the users that `prepare` creates, a list of objects in JSON
    PROJECT_MODEL     the user model, such as accounts.Person; unset: Django's own
"""

import json
import os
import socketserver
import sys
from datetime import timedelta
from wsgiref import simple_server

import django
from django.conf import settings

ISSUER = os.environ.get("PROJECT_ISSUER")
MODEL = os.environ.get("PROJECT_MODEL", "auth.User")
sys.path.append(os.path.dirname(os.path.realpath(__file__)))  # for accounts

SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True}
if ISSUER:
    SIMPLE_JWT = {
        "ALGORITHM": "RS256",
        "JWK_URL": ISSUER + "/.well-known/jwks.json",
        # Neither is checked unless it is set.
        "ISSUER": ISSUER,
        "AUDIENCE": os.environ["PROJECT_AUDIENCE"],
        "USER_ID_CLAIM": "user_id",
        "USER_ID_FIELD": os.environ.get("PROJECT_USER_ID", "id"),
    }

settings.configure(
    SECRET_KEY="known to this test alone, and long enough for HS256",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    AUTH_USER_MODEL=MODEL,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["PROJECT_DATABASE"],
            "OPTIONS": {"timeout": 20},
        }
    },
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rest_framework",
        "rest_framework_simplejwt",
        "rest_framework_simplejwt.token_blacklist",
    ]
    + (["accounts"] if MODEL.startswith("accounts.") else []),
    # What `startproject` writes, without what only pages with a session need.
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    STATIC_URL="/static/",
    PASSWORD_HASHERS=[
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.Argon2PasswordHasher",
        "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
    ],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    },
    SIMPLE_JWT=SIMPLE_JWT,
)
django.setup()

# After setup, because these read the settings when they are imported.
from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.core.management import call_command, execute_from_command_line  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework_simplejwt import views  # noqa: E402
from rest_framework_simplejwt.tokens import RefreshToken  # noqa: E402
from rest_framework_simplejwt.utils import aware_utcnow  # noqa: E402


User = get_user_model()


class WhoAmI(APIView):
    def get(self, request):
        return Response({"username": request.user.get_username(), "id": request.user.pk})


urlpatterns = [path("api/whoami/", WhoAmI.as_view())]
if not ISSUER:
    urlpatterns += [
        path("api/token/", views.TokenObtainPairView.as_view()),
        path("api/token/refresh/", views.TokenRefreshView.as_view()),
        path("api/token/verify/", views.TokenVerifyView.as_view()),
        path("api/token/blacklist/", views.TokenBlacklistView.as_view()),
    ]


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class QuietHandler(simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass


def prepare():
    call_command("migrate", verbosity=0, run_syncdb=True)  # accounts has no migrations
    for entry in json.loads(os.environ["PROJECT_PEOPLE"]):
        user = User(**{User.USERNAME_FIELD: User.normalize_username(entry["username"])})
        user.set_unusable_password()
        user.is_active = not entry.get("inactive", False)
        if entry.get("password"):
            user.password = make_password(entry["password"], hasher=entry["hasher"])
        user.save()


def serve():
    server = simple_server.make_server(
        "127.0.0.1", 0, get_wsgi_application(), server_class=Server, handler_class=QuietHandler
    )
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def switch(name, on):
    User.objects.filter(username=name).update(is_active=on)


def passwd(name):
    user = User.objects.get(username=name)
    user.set_password(User.objects.make_random_password(20))
    user.save()


def remove(name):
    User.objects.get(username=name).delete()


def expired(name):
    # No test has to wait, because simplejwt lets its caller set the expiry.
    refresh = RefreshToken.for_user(User.objects.get(username=name))
    live, access = str(refresh), refresh.access_token
    for token in (refresh, access):
        token.set_exp(from_time=aware_utcnow(), lifetime=timedelta(hours=-1))
    print(json.dumps({"access": str(access), "refresh": str(refresh), "live": live}))


if __name__ == "__main__":
    commands = {
        "prepare": prepare,
        "serve": serve,
        "enable": lambda name: switch(name, True),
        "disable": lambda name: switch(name, False),
        "passwd": passwd,
        "remove": remove,
        "expired": expired,
    }
    command = commands.get(sys.argv[1])
    if command:
        command(*sys.argv[2:])
    else:
        execute_from_command_line(sys.argv)
