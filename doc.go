// Package tesserafs holds nothing but the test of the import arrows between the project's rooms;
// the command is cmd/tesserafs, the manual README.md.
package tesserafs
