package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages",
		Long:   "Write a manual page for each command into DIR, which is made where it is not there.\n\n" + exitHelp,
		Args:   arguments("DIR"),
		Hidden: true, // for packagers
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("cannot make the directory: %w", err)
			}
			cmd.Root().DisableAutoGenTag = true // a date again
			date := buildDate()
			head := &doc.GenManHeader{Section: "1", Source: "tesserafs " + buildVersion(), Manual: "tesserafs", Date: &date}
			return doc.GenManTree(cmd.Root(), head, args[0])
		},
	}
}
