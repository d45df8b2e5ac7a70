r"""Hostile plugins: what each does, and what must come of it.

`FAILS`: its own cells fail, and a message names its file. `TOLD`: it is put right and named. `WORKS`: its cells finish.
"""

from __future__ import annotations

from typing import NamedTuple

FAILS, TOLD, WORKS = "fails", "told", "works"
IMPORTS = (
    "import atexit, builtins, json, math, os, random, resource, signal, subprocess, sys, tempfile, threading, time, "
    "warnings\nimport numpy, torch\nfrom pathlib import Path\n"
)
KEEP = "round.norms >= 0"


class Source(NamedTuple):
    """The text of a plugin file, and what must come of it."""

    text: str | bytes
    outcome: str


def rule(body: str, outcome: str = FAILS, value: str = KEEP, head: str = "") -> Source:
    """Write a defense that runs `body` in every round, and `head` when it is imported."""
    lines = "\n    ".join(body.splitlines() or ["pass"])
    return Source(
        f'"""Hostile."""\n{IMPORTS}from agrbench.plugins import Defense\n{head}\n\n'
        f"def weigh(round):\n    {lines}\n    return {value}\n\ndefense = Defense(weigh)\n",
        outcome,
    )


def attacker(body: str, value: str = "insider.poisoned", outcome: str = FAILS) -> Source:
    """Write an attack that runs `body` in every attacked round."""
    return Source(
        f'"""Hostile."""\n{IMPORTS}from agrbench.plugins import Attack\n\n'
        f"def forge(insider):\n    {body or 'pass'}\n    return {value}\n\nattack = Attack(forge=forge)\n",
        outcome,
    )


def loaded(body: str, labels: str = "torch.arange(400) % 2") -> Source:
    """Write a dataset whose `load` runs `body`."""
    return Source(
        f'"""Hostile."""\n{IMPORTS}from agrbench.data.examples import Examples\n'
        "from agrbench.plugins import Dataset, Source\n\n"
        f"def load():\n    x, y = torch.ones(400, 8), {labels}\n    {body}\n"
        "    return Examples(x[:300], y[:300], 2), Examples(x[300:], y[300:], 2)\n\n"
        'dataset = Dataset(load, model="mlp(4)", rate=0.1, root_size=20, source=Source("made here"))\n',
        FAILS,
    )


def mixer(value: str) -> Source:
    """Write a stage that returns a matrix."""
    return Source(
        f'"""Hostile."""\n{IMPORTS}from agrbench.plugins import Stage\n\nstage = Stage(mix=lambda round: {value})\n',
        FAILS,
    )


RULES = {
    "exits": rule("sys.exit(3)"),
    "exits_hard": rule("os._exit(0)"),
    "interrupts": rule("raise KeyboardInterrupt"),
    "ends": rule("raise BaseException('the end')"),
    "stops_iterating": rule("raise StopIteration"),
    "leaves": rule("raise GeneratorExit"),
    "crashes": rule("os.kill(os.getpid(), signal.SIGSEGV)"),
    "kills_itself": rule("os.kill(os.getpid(), signal.SIGKILL)"),
    "stops_itself": rule("os.kill(os.getpid(), signal.SIGSTOP)"),
    "spins": rule("while True: pass"),
    "sleeps": rule("time.sleep(10**6)"),
    "holds_the_lock": rule("10 ** 10 ** 10"),
    "fills": rule("x = [bytearray(10**7) for _ in range(500)]\ntime.sleep(10**6)"),
    "rings": rule("signal.setitimer(signal.ITIMER_REAL, 0.001)\ntime.sleep(1)"),
    "starts_a_thread": rule("threading.Thread(target=time.sleep, args=(1000,)).start()", WORKS),
    "ends_slowly": rule("atexit.register(time.sleep, 1000)", WORKS),
    "forks": rule("if not os.fork(): time.sleep(1000)", WORKS),
    "forks_apart": rule("if not os.fork():\n    os.setsid()\n    time.sleep(1000)", WORKS),
    "starts": rule("subprocess.Popen(['sleep', '1000'])", WORKS),
    "starts_apart": rule("subprocess.Popen(['sleep', '1000'], start_new_session=True)", WORKS),
    "patches_torch": rule("torch.Tensor.sort = torch.Tensor.argsort = lambda *_, **__: 1 / 0", WORKS),
    "patches_json": rule("json.dumps = lambda *_, **__: 'x'"),
    "patches_open": rule("builtins.open = None", WORKS),
    "patches_time": rule("time.time = time.monotonic = lambda: 0.0", WORKS),
    "forgets_modules": rule("sys.modules.pop('agrbench.results.record', None)", WORKS),
    "dtype": rule("torch.set_default_dtype(torch.float64)", TOLD),
    "threads": rule("torch.set_num_threads(2)", TOLD),
    "seeds_torch": rule("torch.manual_seed(3)", TOLD),
    "seeds_numpy": rule("numpy.random.seed(3)", TOLD),
    "seeds_random": rule("random.seed(3)", TOLD),
    "deterministic": rule("torch.use_deterministic_algorithms(True)", TOLD),
    "raises_numpy": rule("numpy.seterr(all='raise')", TOLD),
    "writes_view": rule("round.view.mul_(2)"),
    "writes_updates": rule("round.updates.zero_()"),
    "writes_model": rule("round.server.model.zero_()"),
    "nan": rule("", FAILS, "torch.full((round.n,), math.nan)"),
    "wrong_shape": rule("", FAILS, "torch.ones(3)"),
    "complex": rule("", FAILS, "torch.ones(round.n, dtype=torch.complex64)"),
    "nothing": rule("", FAILS, "None"),
    "text": rule("", FAILS, "'weights'"),
    "prints": rule("print('NOISE')\nos.write(1, b'NOISE')", WORKS),
    "escapes": rule(r"raise ValueError('\x1b[2J\x1b]0;title\x07' + chr(0x202e))"),
    "surrogate": rule(r"raise ValueError('\ud800')"),
    "long_error": rule("raise ValueError('x' * 10**6)"),
    "nameless_error": rule("raise type('E', (Exception,), {'__str__': lambda e: 1 / 0})"),
    "recursion": rule("def f(): f()\nf()"),
    "closes_stderr": rule("if round.number == 1: os.close(2)", WORKS),
    "closes_everything": rule("os.closerange(0, 1000)"),
    "moves_away": rule("os.chdir('/')", TOLD),
    "removes_its_folder": rule("os.chdir(tempfile.mkdtemp())\nos.rmdir(os.getcwd())", TOLD),
    "handles_signals": rule(
        "for n in range(1, 32):\n    if n not in (9, 19): signal.signal(n, lambda *_: None)", WORKS
    ),
    "clears_environment": rule("os.environ.clear()", WORKS),
    "hides_stdout": rule("sys.stdout = sys.stderr = None", WORKS),
    "errs_on_warnings": rule("warnings.simplefilter('error')", WORKS),
    "no_files": rule("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", WORKS),
    "no_room": rule("resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))", WORKS),
}
HEADS = {
    "import_raises": rule("", head="1 / 0"),
    "import_exits": rule("", head="sys.exit(3)"),
    "import_interrupts": rule("", head="raise KeyboardInterrupt"),
    "import_dtype": rule("", TOLD, head="torch.set_default_dtype(torch.float64)"),
    "import_prints": rule("", WORKS, head="print('NOISE')"),
    "import_patches": rule("", WORKS, head="torch.Tensor.argsort = lambda *_, **__: 1 / 0"),
    "import_threads": rule("", WORKS, head="threading.Thread(target=time.sleep, args=(1000,)).start()"),
    "import_writes": rule("", WORKS, head="os.write(1, b'NOISE')\nos.system('echo NOISE')"),
    "import_spins": rule("", head="while True: pass"),
    "syntax": Source("def weigh(round:\n", FAILS),
    "bytes": Source(b"\x00\xff\xfe\x80" * 100, FAILS),
    "empty": Source("", FAILS),
    "bom": Source("\ufeff" + str(rule("", WORKS).text), WORKS),
    "with-dashes": rule(""),
    "kr\u0443m": rule(""),  # its third letter is Cyrillic
    "deep": Source(f"defense = {'(' * 5000}1{')' * 5000}\n", FAILS),
}
ATTACKS = {
    "attack_raises": attacker("1 / 0"),
    "attack_exits": attacker("sys.exit(3)"),
    "attack_spins": attacker("while True: pass"),
    "attack_nothing": attacker("", "None"),
    "attack_shape": attacker("", "insider.honest"),
    "attack_writes_model": attacker("insider.model.zero_()"),
    "attack_writes_honest": attacker("insider.honest.zero_()", outcome=WORKS),  # which is a copy
    "attack_dtype": attacker("torch.set_default_dtype(torch.float64)", outcome=TOLD),
}
DATASETS = {
    "data_raises": loaded("1 / 0"),
    "data_exits": loaded("sys.exit(3)"),
}
STAGES = {"stage_raises": mixer("1 / 0"), "stage_nan": mixer("torch.full((round.n, round.n), math.nan)")}
ALONE = {
    "deletes_records": rule("[path.unlink() for path in Path('records').rglob('*.json')]", WORKS),
    "edits_krum": rule(
        "for path in Path('records').rglob('krum/*/*.json'):\n"
        "    path.write_text(path.read_text().replace('0.', '0.1'))",
        WORKS,
    ),
    "deletes_claims": rule("[path.unlink() for path in Path('records').rglob('*.claim')]", WORKS),
    "import_exits_hard": rule("", head="os._exit(0)"),
    "import_cannot_be_interrupted": rule(
        "", head="signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\nwhile True: pass"
    ),
    "requires_spins": Source(
        str(RULES["spins"].text).replace("Defense(weigh)", "Defense(weigh, requires=lambda n, f: weigh(n))"), FAILS
    ),
    "krum": rule(""),
    "data_labels": loaded("", "torch.arange(400) % 2 + 7"),
    "data_nan": loaded("x[:] = math.nan"),
}
