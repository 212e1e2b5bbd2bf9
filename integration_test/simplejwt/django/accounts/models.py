from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class Person(AbstractBaseUser):
    """Logs in with an email address. The model has no field is_active, so every user is active."""

    email = models.EmailField(unique=True)
    objects = BaseUserManager()

    USERNAME_FIELD = "email"
