"""``report.html``: one page that needs no network, from what a sweep stored."""
