"""The batcher's rules once more, the plain way: every request carries its own counts, and every list is walked."""

from __future__ import annotations

from policies.serving.batching import BatchRules


class Slow:
    """One iteration a call; no blocks are shared. Requests are (key, prompt, wanted, rank)."""

    def __init__(self, rules: BatchRules) -> None:
        self.rules, self.free = rules, rules.blocks
        self.queue: list[dict[str, int]] = []
        self.running: list[dict[str, int]] = []
        self.orders = 0

    def offer(self, key: int, prompt: int, wanted: int, rank: int) -> None:
        """Let a request wait."""
        self.orders += 1
        self.queue.append({"key": key, "prompt": prompt, "wanted": wanted, "rank": rank, "order": self.orders,
                           "emitted": 0, "cached": 0, "blocks": 0})  # fmt: skip

    def _count(self, tokens: int) -> int:
        return -(-tokens // self.rules.block_tokens)

    def iterate(self) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]], list[int]] | None:
        """Return chunks (key, tokens, context), decodes (key, context) and who is done; None if there is nothing."""
        crowded = False
        decoding = [one for one in self.running if one["decodes"]]
        for one in sorted(decoding, key=lambda r: (r["rank"], r["order"])):
            if one not in self.running or one["blocks"] * self.rules.block_tokens > one["cached"]:
                continue
            while one in self.running and not self.free:
                last = max(self.running, key=lambda r: (r["rank"], r["order"]))
                self.running.remove(last)
                self.free += last["blocks"]
                last.update(blocks=0, cached=0, decodes=0)
                self.queue.append(last)
                crowded = True
            if one in self.running:
                self.free -= 1
                one["blocks"] += 1
        decoding = [one for one in decoding if one in self.running]
        budget = self.rules.tokens_max - len(decoding)
        chunks: list[tuple[int, int, int]] = []
        worked: list[dict[str, int]] = []
        for one in [r for r in self.running if r not in decoding]:
            if budget:
                budget -= self._chunk(one, budget, chunks, worked)
        while not crowded and budget and len(self.running) < self.rules.requests_max and self.queue:
            head = min(self.queue, key=lambda r: (r["rank"], r["order"]))
            target = head["prompt"] + head["emitted"]
            needed = min(self._count(target) + 1, self._count(head["prompt"] + head["wanted"]))
            if needed > self.free:
                break
            self.queue.remove(head)
            self.free -= needed
            head.update(blocks=needed, cached=0, decodes=0)
            self.running.append(head)
            budget -= self._chunk(head, budget, chunks, worked)
        if not chunks and not decoding:
            return None
        decodes = [(one["key"], one["cached"] + 1) for one in decoding]
        done = []
        for one in decoding:
            one["cached"] += 1
            one["emitted"] += 1
        for one in worked:
            if one["cached"] == one["prompt"] + one["emitted"]:
                one["emitted"] += 1
                one["decodes"] = 1
        for one in list(self.running):
            if one["emitted"] == one["wanted"]:
                done.append(one["key"])
                self.running.remove(one)
                self.free += one["blocks"]
        return chunks, decodes, done

    def _chunk(
        self, one: dict[str, int], budget: int, chunks: list[tuple[int, int, int]], worked: list[dict[str, int]]
    ) -> int:
        tokens = min(one["prompt"] + one["emitted"] - one["cached"], budget)
        chunks.append((one["key"], tokens, one["cached"]))
        one["cached"] += tokens
        worked.append(one)
        return tokens
