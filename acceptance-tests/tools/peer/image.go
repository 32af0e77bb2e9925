package main

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

type image struct{}

type imageModel struct {
	NamePrefix      types.String `tfsdk:"name_prefix"`
	Description     types.String `tfsdk:"description"`
	ExistingImageID types.String `tfsdk:"existing_image_id"`
	Cache           types.Bool   `tfsdk:"cache"`
	MaxAge          types.String `tfsdk:"max_age"`
	Triggers        types.Map    `tfsdk:"triggers"`
	Tags            types.Map    `tfsdk:"tags"`
	Channels        types.Set    `tfsdk:"channels"`
	RetainOnDestroy types.Bool   `tfsdk:"retain_on_destroy"`
	Environment     types.Map    `tfsdk:"environment"`
	OnError         types.String `tfsdk:"on_error"`
	Qemu            types.Object `tfsdk:"qemu"`
	Provision       types.List   `tfsdk:"provision"`
	Security        types.Object `tfsdk:"security"`
	Verify          types.List   `tfsdk:"verify"`
	Timeouts        types.Object `tfsdk:"timeouts"`

	ID            types.String `tfsdk:"id"`
	Cloud         types.String `tfsdk:"cloud"`
	Region        types.String `tfsdk:"region"`
	CacheKey      types.String `tfsdk:"cache_key"`
	Origin        types.String `tfsdk:"origin"`
	ImageID       types.String `tfsdk:"image_id"`
	ImageName     types.String `tfsdk:"image_name"`
	ResolvedBase  types.String `tfsdk:"resolved_base"`
	CreatedAt     types.String `tfsdk:"created_at"`
	BuildDuration types.String `tfsdk:"build_duration"`
	LogPath       types.String `tfsdk:"log_path"`
	Path          types.String `tfsdk:"path"`
	Format        types.String `tfsdk:"format"`
	Sha256        types.String `tfsdk:"sha256"`
	SizeBytes     types.Int64  `tfsdk:"size_bytes"`
	TagsAll       types.Map    `tfsdk:"tags_all"`
}

func optionalString(description string) schema.Attribute {
	return schema.StringAttribute{Optional: true, Description: description}
}

func optionalMap(description string) schema.Attribute {
	return schema.MapAttribute{Optional: true, ElementType: types.StringType, Description: description}
}

func computedString(description string) schema.Attribute {
	return schema.StringAttribute{
		Computed: true, Description: description,
		PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
	}
}

func (image) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "peer_image"
}

func (image) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	attributes := map[string]schema.Attribute{
		"name_prefix":       schema.StringAttribute{Required: true, Description: "The start of the image's name."},
		"description":       optionalString("What the image is for."),
		"existing_image_id": optionalString("An image to adopt."),
		"cache":             schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(true), Description: "Reuse an image of the same key."},
		"max_age":           optionalString("An older image is replaced."),
		"triggers":          optionalMap("More inputs of the key."),
		"tags":              optionalMap("Tags."),
		"channels":          schema.SetAttribute{Optional: true, ElementType: types.StringType, Description: "Promotion."},
		"retain_on_destroy": schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false), Description: "Leave the image."},
		"environment":       optionalMap("For all steps."),
		"on_error":          schema.StringAttribute{Optional: true, Computed: true, Default: stringdefault.StaticString("cleanup"), Description: "cleanup or keep."},
		"qemu":              imageQemu(),
		"provision":         provision(),
		"security": schema.SingleNestedAttribute{
			Optional: true, Description: "Hardening and cleaning.",
			Attributes: map[string]schema.Attribute{
				"cis_hardening":        schema.BoolAttribute{Optional: true, Description: "Harden."},
				"clean_sensitive_data": schema.BoolAttribute{Optional: true, Description: "Clean."},
				"remove_ssh_host_keys": schema.BoolAttribute{Optional: true, Description: "Remove host keys."},
			},
		},
		"verify": schema.ListNestedAttribute{
			Optional: true, Description: "Checks of the finished image.",
			NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
				"name":    schema.StringAttribute{Required: true, Description: "What is checked."},
				"command": schema.StringAttribute{Required: true, Description: "A shell command."},
			}},
		},
		"timeouts":   timeouts(),
		"size_bytes": schema.Int64Attribute{Computed: true, Description: "Bytes."},
		"tags_all":   schema.MapAttribute{Computed: true, ElementType: types.StringType, Description: "All tags."},
	}
	for _, name := range []string{
		"id", "cloud", "region", "cache_key", "origin", "image_id", "image_name", "resolved_base", "created_at",
		"build_duration", "log_path", "path", "format", "sha256",
	} {
		attributes[name] = computedString("Computed: " + name + ".")
	}
	resp.Schema = schema.Schema{Description: "A machine image.", Attributes: attributes}
}

func imageQemu() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Description: "Builds on this machine.",
		Attributes: map[string]schema.Attribute{
			"base": schema.SingleNestedAttribute{
				Required: true, Description: "What the image starts from.",
				Attributes: map[string]schema.Attribute{
					"bootstrap": schema.SingleNestedAttribute{
						Optional: true, Description: "From a mirror.",
						Attributes: map[string]schema.Attribute{
							"suite":    schema.StringAttribute{Required: true, Description: "For instance bookworm."},
							"mirror":   optionalString("The mirror."),
							"snapshot": optionalString("A date."),
							"packages": schema.ListAttribute{Optional: true, ElementType: types.StringType, Description: "More packages."},
						},
					},
					"image":  optionalString("A path or URL."),
					"sha256": optionalString("Its checksum."),
				},
			},
			"arch":         optionalString("x86_64 or arm64."),
			"disk_size_gb": schema.Int64Attribute{Optional: true, Description: "GiB."},
			"memory_mb":    schema.Int64Attribute{Optional: true, Description: "MiB."},
			"cpus":         schema.Int64Attribute{Optional: true, Description: "Virtual processors."},
			"format":       optionalString("qcow2, raw or vmdk."),
			"network":      optionalString("user, mirror or none."),
			"boot":         schema.BoolAttribute{Optional: true, Description: "Run the steps in a guest."},
		},
	}
}

func provision() schema.Attribute {
	return schema.ListNestedAttribute{
		Optional: true, Description: "Steps, in order.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"inline":         schema.ListAttribute{Optional: true, ElementType: types.StringType, Description: "Commands."},
			"script":         optionalString("A file."),
			"content":        optionalString("A script's text."),
			"reboot":         schema.BoolAttribute{Optional: true, Description: "Reboot."},
			"user":           optionalString("Who runs it."),
			"environment":    optionalMap("Variables."),
			"environment_wo": schema.MapAttribute{Optional: true, WriteOnly: true, ElementType: types.StringType, Description: "Secrets."},
			"timeout":        optionalString("A duration."),
			"upload": schema.SingleNestedAttribute{
				Optional: true, Description: "A file to put into the image.",
				Attributes: map[string]schema.Attribute{
					"source":      schema.StringAttribute{Required: true, Description: "Here."},
					"destination": schema.StringAttribute{Required: true, Description: "There."},
					"mode":        optionalString("For instance 0644."),
					"owner":       optionalString("For instance root:root."),
				},
			},
		}},
	}
}

func timeouts() schema.Attribute {
	attributes := map[string]schema.Attribute{}
	for _, name := range []string{"create", "read", "update", "delete"} {
		attributes[name] = optionalString("How long " + name + " may take.")
	}
	return schema.SingleNestedAttribute{Optional: true, Description: "Deadlines.", Attributes: attributes}
}

func (image) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model imageModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	for _, value := range []*types.String{
		&model.ID, &model.Cloud, &model.Region, &model.CacheKey, &model.Origin, &model.ImageID, &model.ImageName,
		&model.ResolvedBase, &model.CreatedAt, &model.BuildDuration, &model.LogPath, &model.Path, &model.Format,
		&model.Sha256,
	} {
		*value = types.StringValue("nothing")
	}
	model.SizeBytes = types.Int64Value(0)
	model.TagsAll = types.MapNull(types.StringType)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (image) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model imageModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (image) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model imageModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (image) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
