// Command peer is a provider on terraform-plugin-framework with Sindri's schema, whose resources do nothing: what a
// plugin in Go costs before it does any work. generate.go writes schema.go.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
)

func main() {
	options := providerserver.ServeOpts{Address: "registry.opentofu.org/sindri/peer"}
	if err := providerserver.Serve(context.Background(), func() provider.Provider { return peer{} }, options); err != nil {
		log.Fatal(err)
	}
}

type peer struct{}

func (peer) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "peer"
}

func (peer) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schemaOfProvider()
}

func (peer) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var config modelOfProvider
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
}

func (peer) Resources(context.Context) []func() resource.Resource       { return resources() }
func (peer) DataSources(context.Context) []func() datasource.DataSource { return sources() }
func (peer) Functions(context.Context) []func() function.Function       { return functions() }
