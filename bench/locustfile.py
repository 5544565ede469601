"""The article's mixed load for Locust.

    pip install locust
    locust -f bench/locustfile.py --host http://localhost:8000 --headless --users 100 --spawn-rate 10 --run-time 1m

Five users of the cached page for one of the naive page; leave out --headless to steer the run at http://localhost:8089.
"""

from locust import HttpUser, between, task


class CachedUser(HttpUser):
    """Reads the cached listing and is soon back."""

    weight = 5
    wait_time = between(1, 2)

    @task
    def listing(self):
        self.client.get("/api/properties/cached/", name="cached")


class NaiveUser(HttpUser):
    """Reads the listing that asks the database 62 times."""

    weight = 1
    wait_time = between(2, 5)

    @task
    def listing(self):
        self.client.get("/api/properties/live/naive/", name="naive")
