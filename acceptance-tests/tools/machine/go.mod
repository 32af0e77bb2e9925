// The machine behind the instances that `make bench` builds images in: it costs nothing, so that what is measured is the rest.
module sindri.dev/acceptance-tests/tools/machine

go 1.25.0

require golang.org/x/crypto v0.52.0

require golang.org/x/sys v0.45.0 // indirect
