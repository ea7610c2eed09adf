"""HTML pages, taken apart."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Scripts and tags of a page as a browser would see them."""

    def __init__(self, text: str):
        super().__init__()
        self.scripts, self.tags, self.outside, self.inside = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        (self.scripts if self.inside else self.outside).append(data)
