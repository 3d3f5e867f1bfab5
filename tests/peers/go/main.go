// Speaks to a running agent as any program built on go-spiffe does: fetches, validates, serves mTLS to itself, watches.
//
// Prints a line for each thing that held, and ends with status 1 at the first that did not.
package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if len(os.Args) == 2 && os.Args[1] == "watch" {
		watch(ctx)
		return
	}
	x509SVID := fetchX509(ctx)
	if file := os.Getenv("PEERS_BUNDLE"); file != "" {
		bundleDocument(x509SVID, file)
	}
	jwt(ctx, x509SVID.ID)
	mutualTLS(ctx, x509SVID.ID)
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-spiffe:", err)
		os.Exit(1)
	}
}

func held(format string, args ...any) { fmt.Printf("go-spiffe: "+format+"\n", args...) }

func fetchX509(ctx context.Context) *x509svid.SVID {
	all := must(workloadapi.FetchX509Context(ctx))
	svid := all.DefaultSVID()
	bundle := must(all.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain()))
	id, _, err := x509svid.Verify(svid.Certificates, bundle)
	check(err)
	if id != svid.ID {
		check(fmt.Errorf("the chain says %s, the answer %s", id, svid.ID))
	}
	if svid.Certificates[0].KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		check(fmt.Errorf("the leaf may not sign"))
	}
	held("X.509-SVID of %s verifies", svid.ID)
	return svid
}

// bundleDocument verifies with the SPIFFE bundle document that `errand bundle show --format spiffe` wrote.
func bundleDocument(svid *x509svid.SVID, file string) {
	bundle := must(spiffebundle.Load(svid.ID.TrustDomain(), file))
	_, _, err := x509svid.Verify(svid.Certificates, bundle)
	check(err)
	held("the bundle document parses, and verifies the SVID")
}

func jwt(ctx context.Context, id spiffeid.ID) {
	svid := must(workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "peers.example.org"}))
	if svid.ID != id {
		check(fmt.Errorf("the JWT-SVID is %s's", svid.ID))
	}
	bundles := must(workloadapi.FetchJWTBundles(ctx))
	must(jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{"peers.example.org"}))
	if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{"others.example.org"}); err == nil {
		check(fmt.Errorf("a JWT-SVID for another audience was accepted"))
	}
	must(workloadapi.ValidateJWTSVID(ctx, svid.Marshal(), "peers.example.org"))
	if _, err := workloadapi.ValidateJWTSVID(ctx, svid.Marshal()[:len(svid.Marshal())-4]+"AAAA", "peers.example.org"); err == nil {
		check(fmt.Errorf("the agent accepted a forged JWT-SVID"))
	}
	held("JWT-SVID of %s validates here and at the agent, and a forged one does not", svid.ID)
}

func mutualTLS(ctx context.Context, id spiffeid.ID) {
	source := must(workloadapi.NewX509Source(ctx))
	defer source.Close()
	mode := tlsconfig.AuthorizeID(id)
	listener := must(spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", spiffetls.MTLSServerWithSource(mode, source)))
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			io.Copy(conn, io.LimitReader(conn, 4))
			conn.Close()
		}
	}()
	conn := must(spiffetls.DialWithMode(ctx, "tcp", listener.Addr().(*net.TCPAddr).String(), spiffetls.MTLSClientWithSource(mode, source)))
	defer conn.Close()
	must(conn.Write([]byte("ping")))
	answer := must(io.ReadAll(io.LimitReader(conn, 4)))
	if string(answer) != "ping" {
		check(fmt.Errorf("mTLS answered %q", answer))
	}
	held("mTLS between two ends with SVIDs of the agent")
}

// watcher passes on what the stream says, until something says otherwise.
type watcher struct{ ids chan string }

func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	for _, svid := range c.SVIDs {
		w.ids <- svid.ID.String()
	}
}
func (w watcher) OnX509ContextWatchError(err error) {
	fmt.Fprintln(os.Stderr, "go-spiffe: watching:", err)
}

// watch prints the IDs it is pushed. Ends well when it has seen one that ends in /late.
func watch(ctx context.Context) {
	w := watcher{ids: make(chan string, 64)}
	go workloadapi.WatchX509Context(ctx, w)
	for first := true; ; first = false {
		select {
		case id := <-w.ids:
			if first {
				fmt.Println("go-spiffe: watching")
			}
			if parsed := must(spiffeid.FromString(id)); parsed.Path() == "/late" {
				held("an entry made while watching was pushed: %s", id)
				return
			}
		case <-ctx.Done():
			check(fmt.Errorf("nothing was pushed for /late"))
		}
	}
}
