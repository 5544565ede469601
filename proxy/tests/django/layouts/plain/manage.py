import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
print("a project may print what it likes")
execute_from_command_line(sys.argv)
