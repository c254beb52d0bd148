from django.test import TestCase


class ShopTest(TestCase):
    def test_it_shows_the_wares(self):
        self.assertContains(self.client.get("/", headers={"host": "localhost"}), "a lamp")
