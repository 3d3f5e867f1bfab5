"""Speaks to a running agent as any program built on py-spiffe does. C-core gRPC on a unix socket is what the agent's
authority shim is for. Ends with status 1 at the first thing that does not hold."""

import sys

from spiffe import WorkloadApiClient

AUDIENCE = "peers.example.org"


def held(text):
    print(f"py-spiffe: {text}")


def main():
    with WorkloadApiClient() as client:
        svid = client.fetch_x509_svid()
        context = client.fetch_x509_context()
        assert context.default_svid.spiffe_id == svid.spiffe_id
        assert context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        held(f"X.509-SVID and context of {svid.spiffe_id}")

        token = client.fetch_jwt_svid(audience={AUDIENCE})
        assert token.spiffe_id == svid.spiffe_id
        valid = client.validate_jwt_svid(token.token, AUDIENCE)
        assert valid.spiffe_id == svid.spiffe_id
        try:
            client.validate_jwt_svid(token.token, "others.example.org")
        except Exception:  # each version of the library has its own class for it
            held("JWT-SVID validates for its audience and for no other")
        else:
            sys.exit("py-spiffe: a JWT-SVID for another audience was accepted")


main()
