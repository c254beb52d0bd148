import os

from django.http import JsonResponse
from django.shortcuts import render
from django.urls import path

from shop.models import Ware


def shop(request):
    return render(request, "shop.html", {"wares": Ware.objects.all()})


def where(request):
    return JsonResponse({"pid": os.getpid(), "parent": os.getppid(), "environment": sorted(os.environ)})


urlpatterns = [path("", shop), path("where", where)]
