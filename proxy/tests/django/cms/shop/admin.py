from django.contrib import admin
from shop.models import Home

admin.site.register(Home)
