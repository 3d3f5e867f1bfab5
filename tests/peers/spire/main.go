// SPIRE's own command line, made of its own packages: every command of `spire-server` that speaks to a server's API. `run` and
// `validate`, which are the server itself, are left out, and with them what only they need.
package main

import (
	"os"

	"github.com/mitchellh/cli"
	"github.com/spiffe/spire/cmd/spire-server/cli/agent"
	"github.com/spiffe/spire/cmd/spire-server/cli/bundle"
	"github.com/spiffe/spire/cmd/spire-server/cli/debug"
	"github.com/spiffe/spire/cmd/spire-server/cli/entry"
	"github.com/spiffe/spire/cmd/spire-server/cli/healthcheck"
	"github.com/spiffe/spire/cmd/spire-server/cli/jwt"
	"github.com/spiffe/spire/cmd/spire-server/cli/logger"
	"github.com/spiffe/spire/cmd/spire-server/cli/token"
	"github.com/spiffe/spire/cmd/spire-server/cli/x509"
)

func is[T cli.Command](make func() T) cli.CommandFactory {
	return func() (cli.Command, error) { return make(), nil }
}

func main() {
	c := cli.NewCLI("spire-server", "1.15.3")
	c.Args = os.Args[1:]
	c.Commands = map[string]cli.CommandFactory{
		"agent ban":      is(agent.NewBanCommand),
		"agent count":    is(agent.NewCountCommand),
		"agent evict":    is(agent.NewEvictCommand),
		"agent list":     is(agent.NewListCommand),
		"agent purge":    is(agent.NewPurgeCommand),
		"agent show":     is(agent.NewShowCommand),
		"bundle count":   is(bundle.NewCountCommand),
		"bundle delete":  is(bundle.NewDeleteCommand),
		"bundle list":    is(bundle.NewListCommand),
		"bundle set":     is(bundle.NewSetCommand),
		"bundle show":    is(bundle.NewShowCommand),
		"debug getinfo":  is(debug.NewGetInfoCommand),
		"entry count":    is(entry.NewCountCommand),
		"entry create":   is(entry.NewCreateCommand),
		"entry delete":   is(entry.NewDeleteCommand),
		"entry show":     is(entry.NewShowCommand),
		"entry update":   is(entry.NewUpdateCommand),
		"healthcheck":    is(healthcheck.NewHealthCheckCommand),
		"jwt mint":       is(jwt.NewMintCommand),
		"logger get":     is(logger.NewGetCommand),
		"logger reset":   is(logger.NewResetCommand),
		"logger set":     is(logger.NewSetCommand),
		"token generate": is(token.NewGenerateCommand),
		"x509 mint":      is(x509.NewMintCommand),
	}
	status, err := c.Run()
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		status = 1
	}
	os.Exit(status)
}
