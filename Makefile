# The two commands of the README, for people who type `make`; ARGS are passed on: make run ARGS="seed=7".
.PHONY: run test lock

run:
	./twin run $(ARGS)

test:
	./twin test $(ARGS)

# One universal constraint file for Python 3.11 to 3.13; existing pins are kept unless UPGRADE=--upgrade.
# torch stays out: each machine takes its own build of the version that pyproject.toml pins.
lock:
	.venv/bin/python -m uv pip compile pyproject.toml --universal -p 3.11 --no-annotate \
	    --custom-compile-command "make lock" --quiet $(UPGRADE) -o requirements.lock \
	    --extra jax --extra track --extra local --extra gateway --extra tokenizer --extra notebooks --extra dev
