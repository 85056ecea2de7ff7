#!/usr/bin/env python3
"""Erases one account's folder: a handler for `delete_content`, and for `purge_backups` where backups are folders too.

Usage: erase.py FOLDER < task.json

The content of account `acme` is taken to be FOLDER/acme. FOLDER must hold an empty file named after the
effect (`.delete_content` or `.purge_backups`). An unmounted disk has none, and neither has the wrong
folder, so that nobody takes either for content that is gone already.

Exit code 0 with a receipt on standard output: the content is gone. Anything else: it may not be, try again.
Running it twice is safe; the second receipt says that nothing was left.
"""

import json
import re
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")  # nothing that could climb out of the folder
EFFECTS = ("delete_content", "purge_backups")


def main() -> int:
    if len(sys.argv) != 2:
        return fail("usage: erase.py FOLDER < task.json")
    root, task = Path(sys.argv[1]), json.load(sys.stdin)
    account, effect = task["account_id"], task["effect"]
    if effect not in EFFECTS:
        return fail(f"this program erases; it does not know how to {effect}")
    if not ACCOUNT_ID.fullmatch(account):
        return fail(f"{account!r} is no account id")
    if not (root / f".{effect}").is_file():
        return fail(f"{root} holds no file .{effect}: is the disk mounted, and is this the right folder?")
    folder = root / account
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return fail(f"{folder} is not a folder; a person must look at it")
    files = sum(not path.is_dir() for path in folder.rglob("*")) if folder.exists() else 0
    if folder.exists():
        shutil.rmtree(folder)
    receipt = {
        "erased": account,
        "files": files,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": task["idempotency_key"],
    }
    print(json.dumps(receipt))
    return 0


def fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
