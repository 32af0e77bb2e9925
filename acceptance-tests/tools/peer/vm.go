package main

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

type vm struct{}

type vmModel struct {
	Name                    types.String `tfsdk:"name"`
	SourceImageID           types.String `tfsdk:"image_id"`
	PowerState              types.String `tfsdk:"power_state"`
	UserData                types.String `tfsdk:"user_data"`
	UserDataWo              types.String `tfsdk:"user_data_wo"`
	UserDataWoVersion       types.Int64  `tfsdk:"user_data_wo_version"`
	UserDataReplaceOnChange types.Bool   `tfsdk:"user_data_replace_on_change"`
	SSH                     types.Object `tfsdk:"ssh"`
	WaitFor                 types.String `tfsdk:"wait_for"`
	Tags                    types.Map    `tfsdk:"tags"`
	Qemu                    types.Object `tfsdk:"qemu"`
	Timeouts                types.Object `tfsdk:"timeouts"`

	ID                types.String `tfsdk:"id"`
	Status            types.String `tfsdk:"status"`
	PublicIP          types.String `tfsdk:"public_ip"`
	PrivateIP         types.String `tfsdk:"private_ip"`
	SSHHost           types.String `tfsdk:"ssh_host"`
	SSHPort           types.Int64  `tfsdk:"ssh_port"`
	SSHCommand        types.String `tfsdk:"ssh_command"`
	SSHPrivateKeyPath types.String `tfsdk:"ssh_private_key_path"`
	ConsoleLogPath    types.String `tfsdk:"console_log_path"`
	TagsAll           types.Map    `tfsdk:"tags_all"`
}

func (vm) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "peer_vm"
}

func (vm) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	attributes := map[string]schema.Attribute{
		"name":                        schema.StringAttribute{Required: true, Description: "The VM's name."},
		"image_id":                    schema.StringAttribute{Required: true, Description: "The image it runs."},
		"power_state":                 schema.StringAttribute{Optional: true, Computed: true, Default: stringdefault.StaticString("running"), Description: "running or stopped."},
		"user_data":                   optionalString("For cloud-init."),
		"user_data_wo":                schema.StringAttribute{Optional: true, WriteOnly: true, Description: "The same, kept out of state."},
		"user_data_wo_version":        schema.Int64Attribute{Optional: true, Description: "Raise it to send it again."},
		"user_data_replace_on_change": schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false), Description: "Replace the VM."},
		"ssh": schema.SingleNestedAttribute{
			Optional: true, Description: "How to log in.",
			Attributes: map[string]schema.Attribute{
				"username":         optionalString("The user."),
				"public_key":       optionalString("The key's public half."),
				"private_key_path": optionalString("Where its private half is."),
			},
		},
		"wait_for": schema.StringAttribute{Optional: true, Computed: true, Default: stringdefault.StaticString("ssh"), Description: "ssh, cloud-init or none."},
		"tags":     optionalMap("Tags."),
		"qemu": schema.SingleNestedAttribute{
			Optional: true, Description: "Runs on this machine.",
			Attributes: map[string]schema.Attribute{
				"cpus":         schema.Int64Attribute{Optional: true, Description: "Virtual processors."},
				"memory_mb":    schema.Int64Attribute{Optional: true, Description: "MiB."},
				"disk_size_gb": schema.Int64Attribute{Optional: true, Description: "GiB."},
				"ports": schema.MapNestedAttribute{
					Optional: true, Description: "Ports on loopback.",
					NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
						"guest":    schema.Int64Attribute{Required: true, Description: "In the guest."},
						"host":     schema.Int64Attribute{Optional: true, Description: "Here."},
						"protocol": optionalString("tcp or udp."),
					}},
				},
			},
		},
		"timeouts": timeouts(),
		"ssh_port": schema.Int64Attribute{Computed: true, Description: "The port."},
		"tags_all": schema.MapAttribute{Computed: true, ElementType: types.StringType, Description: "All tags."},
	}
	for _, name := range []string{
		"id", "status", "public_ip", "private_ip", "ssh_host", "ssh_command", "ssh_private_key_path", "console_log_path",
	} {
		attributes[name] = computedString("Computed: " + name + ".")
	}
	resp.Schema = schema.Schema{Description: "A virtual machine.", Attributes: attributes}
}

func (vm) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model vmModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	for _, value := range []*types.String{
		&model.ID, &model.Status, &model.PublicIP, &model.PrivateIP, &model.SSHHost, &model.SSHCommand,
		&model.SSHPrivateKeyPath, &model.ConsoleLogPath,
	} {
		*value = types.StringValue("nothing")
	}
	model.SSHPort = types.Int64Value(0)
	model.TagsAll = types.MapNull(types.StringType)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (vm) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model vmModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (vm) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model vmModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (vm) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
