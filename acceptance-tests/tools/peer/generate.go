//go:build ignore

// Writes schema.go: the schemas and models of the peer, from what Sindri's own golden file says of Sindri's, which it
// reads from standard input.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/format"
	"io"
	"log"
	"os"
	"slices"
	"strings"
)

type golden struct {
	Provider    schema              `json:"provider"`
	Resources   map[string]schema   `json:"resources"`
	DataSources map[string]schema   `json:"data_sources"`
	Functions   map[string]function `json:"functions"`
}

type schema struct {
	Description string      `json:"description"`
	Attributes  []attribute `json:"attributes"`
}

type attribute struct {
	Name            string          `json:"name"`
	Kind            string          `json:"kind"`
	Type            json.RawMessage `json:"type"`
	Nesting         string          `json:"nesting"`
	Attributes      []attribute     `json:"attributes"`
	Description     string          `json:"description"`
	Default         any             `json:"default"`
	Sensitive       bool            `json:"sensitive"`
	WriteOnly       bool            `json:"write_only"`
	RequiresReplace bool            `json:"requires_replace"`
	KeepPrior       bool            `json:"keep_prior"`
}

type function struct {
	Summary     string `json:"summary"`
	Description string `json:"description"`
	Parameters  []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	} `json:"parameters"`
}

const header = `// Written by generate.go.
package main

import (
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	dschema "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/function"
	pschema "github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	rschema "github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/listplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/boolplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/setplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// Not all kinds of attributes have modifiers today.
var (
	_ = boolplanmodifier.UseStateForUnknown
	_ = int64planmodifier.UseStateForUnknown
	_ = listplanmodifier.UseStateForUnknown
	_ = mapplanmodifier.UseStateForUnknown
	_ = objectplanmodifier.UseStateForUnknown
	_ = setplanmodifier.UseStateForUnknown
	_ = stringplanmodifier.UseStateForUnknown
)
`

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	// Before it is what the snapshot tool says of the snapshot.
	var all golden
	if err := json.Unmarshal(text[bytes.IndexByte(text, '{'):], &all); err != nil {
		log.Fatal(err)
	}
	var out strings.Builder
	out.WriteString(header)
	schemaAndModel(&out, "pschema", "Provider", all.Provider)
	resources, sources := "", ""
	for _, name := range sorted(all.Resources) {
		short := strings.TrimPrefix(name, "sindri_")
		schemaAndModel(&out, "rschema", camel(short), all.Resources[name])
		resources += fmt.Sprintf("func() resource.Resource { return thing[modelOf%[1]s]{%[2]q, schemaOf%[1]s} },\n", camel(short), short)
	}
	for _, name := range sorted(all.DataSources) {
		short := strings.TrimPrefix(name, "sindri_")
		schemaAndModel(&out, "dschema", camel(short)+"Data", all.DataSources[name])
		sources += fmt.Sprintf("func() datasource.DataSource { return source[modelOf%[1]sData]{%[2]q, schemaOf%[1]sData} },\n", camel(short), short)
	}
	fmt.Fprintf(&out, "func resources() []func() resource.Resource {\nreturn []func() resource.Resource{\n%s}\n}\n", resources)
	fmt.Fprintf(&out, "func sources() []func() datasource.DataSource {\nreturn []func() datasource.DataSource{\n%s}\n}\n", sources)
	functions(&out, all.Functions)
	formatted, err := format.Source([]byte(out.String()))
	if err != nil {
		log.Fatalf("%v in:\n%s", err, out.String())
	}
	if _, err := os.Stdout.Write(formatted); err != nil {
		log.Fatal(err)
	}
}

func schemaAndModel(out *strings.Builder, pkg, name string, all schema) {
	fmt.Fprintf(out, "func schemaOf%s() %s.Schema {\nreturn %s.Schema{Description: %q, Attributes: %s}\n}\n",
		name, pkg, pkg, all.Description, attributes(pkg, all.Attributes))
	fmt.Fprintf(out, "type modelOf%s struct {\n", name)
	for _, one := range all.Attributes {
		fmt.Fprintf(out, "%s types.%s `tfsdk:%q`\n", camel(one.Name), one.value(), one.Name)
	}
	out.WriteString("}\n")
}

func attributes(pkg string, all []attribute) string {
	var out strings.Builder
	fmt.Fprintf(&out, "map[string]%s.Attribute{\n", pkg)
	for _, one := range all {
		fmt.Fprintf(&out, "%q: %s.%sAttribute{", one.Name, pkg, one.kind())
		fmt.Fprintf(&out, "Description: %q, Required: %t, Optional: %t, ", one.Description, one.Kind == "required",
			strings.HasPrefix(one.Kind, "optional"))
		if pkg != "pschema" {
			fmt.Fprintf(&out, "Computed: %t, ", strings.HasSuffix(one.Kind, "computed"))
		}
		fmt.Fprintf(&out, "Sensitive: %t, ", one.Sensitive)
		if pkg == "rschema" {
			out.WriteString(one.plan())
		}
		switch {
		case one.Nesting == "single":
			fmt.Fprintf(&out, "Attributes: %s", attributes(pkg, one.Attributes))
		case one.Nesting != "":
			fmt.Fprintf(&out, "NestedObject: %s.NestedAttributeObject{Attributes: %s}", pkg, attributes(pkg, one.Attributes))
		case one.value() == "Map" || one.value() == "List" || one.value() == "Set":
			out.WriteString("ElementType: types.StringType")
		}
		out.WriteString("},\n")
	}
	out.WriteString("}")
	return out.String()
}

// The attribute's type without "Attribute".
func (a attribute) kind() string {
	if a.Nesting != "" {
		return strings.ToUpper(a.Nesting[:1]) + a.Nesting[1:] + "Nested"
	}
	return a.value()
}

// The value's type in package types.
func (a attribute) value() string {
	values := map[string]string{
		"single": "Object", "map": "Map", "list": "List", "set": "Set",
		`"string"`: "String", `"bool"`: "Bool", `"number"`: "Int64",
		`["map","string"]`: "Map", `["list","string"]`: "List", `["set","string"]`: "Set",
	}
	var compact bytes.Buffer
	if a.Nesting == "" {
		if err := json.Compact(&compact, a.Type); err != nil {
			log.Fatal(err)
		}
	}
	value, known := values[a.Nesting+compact.String()]
	if !known {
		log.Fatalf("%s has a type that the peer has no attribute for: %s", a.Name, a.Type)
	}
	return value
}

// What a resource's attribute has beyond others: defaults and plan modifiers.
func (a attribute) plan() string {
	var out strings.Builder
	if a.WriteOnly {
		out.WriteString("WriteOnly: true, ")
	}
	switch value := a.Default.(type) {
	case bool:
		fmt.Fprintf(&out, "Default: booldefault.StaticBool(%t), ", value)
	case string:
		fmt.Fprintf(&out, "Default: stringdefault.StaticString(%q), ", value)
	case float64:
		fmt.Fprintf(&out, "Default: int64default.StaticInt64(%d), ", int64(value))
	}
	modifiers := strings.ToLower(a.value()) + "planmodifier"
	if a.KeepPrior {
		fmt.Fprintf(&out, "PlanModifiers: []planmodifier.%s{%s.UseStateForUnknown()}, ", a.value(), modifiers)
	} else if a.RequiresReplace {
		fmt.Fprintf(&out, "PlanModifiers: []planmodifier.%s{%s.RequiresReplace()}, ", a.value(), modifiers)
	}
	return out.String()
}

func functions(out *strings.Builder, all map[string]function) {
	out.WriteString("func functions() []func() function.Function {\nreturn []func() function.Function{\n")
	for _, name := range sorted(all) {
		one := all[name]
		fmt.Fprintf(out, "func() function.Function { return nothing{%q, function.Definition{Summary: %q, Description: %q, ",
			name, one.Summary, one.Description)
		out.WriteString("Return: function.StringReturn{}, Parameters: []function.Parameter{\n")
		for _, parameter := range one.Parameters {
			fmt.Fprintf(out, "function.DynamicParameter{Name: %q, Description: %q},\n", parameter.Name, parameter.Description)
		}
		out.WriteString("}}} },\n")
	}
	out.WriteString("}\n}\n")
}

func camel(name string) string {
	var out strings.Builder
	for _, word := range strings.Split(name, "_") {
		out.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return out.String()
}

func sorted[T any](all map[string]T) []string {
	names := []string{}
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
