"""The forecasting service: HTTP endpoints and a page around loaded models. Needs the `serve` extra.

`app` joins the parts, `server` runs them; see docs/service.md.
"""
