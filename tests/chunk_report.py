"""A report on chunk sizes that was never measured, and facts that go with it."""

KIB, MIB = 1 << 10, 1 << 20

SPREAD = {"lower": 90.0, "median": 100.0, "upper": 110.0}

FACTS = {
    "read_ns": {"system call": SPREAD, "recv": SPREAD, "asyncio": SPREAD},
    "recv_ns": {"64": SPREAD, str(MIB): {"lower": 1e5, "median": 104857.6, "upper": 2e5}},
    "send_ns": SPREAD,
    "copy_gb_s": {"4096": SPREAD},
    "caches": {"L1": 32 * KIB, "L2": 512 * KIB},
    "fresh": {"mapped anew": {**SPREAD, "faults": 64.0}, "kept": {**SPREAD, "faults": 0.0}},
    "socket": {
        "fresh": {"send_buffer": 1, "receive_buffer": 2, "segment": 3},
        "used": {"send_buffer": 4, "receive_buffer": 5, "segment": 6},
        "flood": {**SPREAD, "most": 120},
    },
    "nagle_ns": {"TCP_NODELAY": SPREAD, "Nagle": SPREAD},
}


def row(contender, payload, read, median=100.0):
    spread = {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}
    ratio = {"lower": 0.9, "median": 1.0, "upper": 1.1}
    return {"payload": payload, "read": read, "contender": contender, "ns": spread, "ratio": ratio}


def made_up():
    sizes = [(payload, read) for payload in (64, MIB) for read in (64, 256, 256 * KIB, 4 * MIB)]
    ends = {"sender_ns": SPREAD, "receiver_ns": SPREAD}
    return {
        "contenders": {},
        "does": {},
        "facts": FACTS,
        "decode": [{**row("compiled", *size, 1e5 / size[1] + 50), "faults": 0.005} for size in sizes],
        "echo": [row("callback/asyncio", *size) for size in sizes if size[1] <= 256 * KIB]
        + [row("blocking", *size, 100.0 if size[0] == 64 else 16_384_062.5) for size in sizes],
        "transfer": [{**row("feed", *size), **ends} for size in sizes if size != (MIB, 64)],
        "batch": [
            {**row("send_many", 64, 0, ns), **ends, "batch": batch} for batch, ns in ((1, 900.0), (16, 101.0), (256, 100.0))
        ],
    }
