//go:build tools

// Package tools pins what the engine builds from this module.
package tools

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
