"""The web form: pages, and the few JSON endpoints that these pages call.

Rules kept here:

* Every route declares who may use it (`access`); a route that does not is refused, and a test finds it.
* No page needs anything that this server does not serve: no third-party script, font or style, nothing inline.
* Patient text travels in request and response bodies only: never in a URL, a log line, a cookie or a page title.
* Views parse, call and render.  What is true about records, audit and policy is decided below this package.
"""
