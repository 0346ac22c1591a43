"""An HTTP endpoint in OpenAI's form in front of a local village: `docs/gateway.md`.

Importing this package imports neither starlette nor uvicorn, which the extra `gateway` brings; `app` and
`server` do.
"""
