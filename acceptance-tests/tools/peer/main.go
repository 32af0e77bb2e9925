// Command peer is a provider on terraform-plugin-framework with a schema of the same size as
// Sindri's, whose resources do nothing: what a plugin in Go costs before it does any work.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func main() {
	options := providerserver.ServeOpts{Address: "registry.opentofu.org/sindri/peer"}
	if err := providerserver.Serve(context.Background(), func() provider.Provider { return peer{} }, options); err != nil {
		log.Fatal(err)
	}
}

type peer struct{}

type providerModel struct {
	DataDir     types.String `tfsdk:"data_dir"`
	DefaultTags types.Map    `tfsdk:"default_tags"`
	IgnoreTags  types.List   `tfsdk:"ignore_tags"`
	Qemu        types.Object `tfsdk:"qemu"`
}

func (peer) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "peer"
}

func (peer) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "Machine images and virtual machines.",
		Attributes: map[string]schema.Attribute{
			"data_dir":     schema.StringAttribute{Optional: true, Description: "Images, VMs and logs."},
			"default_tags": schema.MapAttribute{Optional: true, ElementType: types.StringType, Description: "Tags of everything."},
			"ignore_tags":  schema.ListAttribute{Optional: true, ElementType: types.StringType, Description: "Keys left alone."},
			"qemu": schema.SingleNestedAttribute{
				Optional: true, Description: "The local backend.",
				Attributes: map[string]schema.Attribute{
					"accelerator":   schema.StringAttribute{Optional: true, Description: "auto, kvm, hvf or tcg."},
					"foreign_store": schema.StringAttribute{Optional: true, Description: "error or forget."},
				},
			},
		},
	}
}

func (peer) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var config providerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
}

func (peer) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		func() resource.Resource { return image{} },
		func() resource.Resource { return vm{} },
	}
}

func (peer) DataSources(context.Context) []func() datasource.DataSource { return nil }
