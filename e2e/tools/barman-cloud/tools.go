//go:build tools

// Package tools pins what the engine builds from this module.
package tools

import (
	_ "github.com/cloudnative-pg/plugin-barman-cloud/cmd/manager"
)
