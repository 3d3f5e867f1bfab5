"""Follows the X.509 context with py-spiffe: `watch.py FILE` writes FILE when it follows, and ends when a second identity
came. Ends with status 1 when none comes."""

import sys
import threading

from spiffe import WorkloadApiClient

PATIENCE = 30


def main(file):
    second = threading.Event()
    problems = []

    def update(context):
        print(f"py-spiffe: {len(context.x509_svids)} identities", flush=True)
        if len(context.x509_svids) > 1:
            second.set()
        else:
            with open(file, "w", encoding="utf-8") as out:
                out.write("following\n")

    with WorkloadApiClient() as client:
        following = client.stream_x509_contexts(on_success=update, on_error=problems.append)
        came = second.wait(PATIENCE)
        following.cancel()
    if not came:
        sys.exit(f"py-spiffe: no update within {PATIENCE} s; {problems}")


main(sys.argv[1])
