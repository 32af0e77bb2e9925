// Command packer is Packer, from its module.
package main

import (
	"os"

	"github.com/hashicorp/packer"
)

func main() { os.Exit(packer.Main(os.Args[1:])) }
