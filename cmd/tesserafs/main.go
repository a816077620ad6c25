// Command tesserafs shows a TESSERA tile archive as Zarr stores that were never written.
//
//	tesserafs demo                       write a small synthetic archive to try things on
//	tesserafs mount SOURCE DIR           show an archive in a directory, until Ctrl-C
//	tesserafs mount SOURCE DIR --daemon  the same in the background
//	tesserafs unmount DIR
//	tesserafs status DIR                 what a mount shows, read, and could not read
//	tesserafs info SOURCE|DIR            what an archive or a mount holds
//	tesserafs points SOURCE FILE         give a table of points the embeddings under them
//	tesserafs verify SOURCE              look at every tile and say what is wrong
//	tesserafs warm SOURCE                fetch what an area needs into the cache, to be read offline
//	tesserafs doctor [SOURCE]            what may keep this machine from mounting
//
// # How it is laid out
//
// A file a subcommand, which holds its flags, its help and what it prints. What they share is in
// exit.go (exit codes), output.go (sizes and tables), progress.go, log.go, archive.go (opening a
// source) and mountpoint.go (whether a directory can be mounted on); daemon.go is mount --daemon,
// info_store.go what info says of a store, area*.go which tiles a box, a polygon and years choose,
// points_*.go the kinds of tables that points reads (input, csv, json, parquet, geometry) and writes
// (output, columns), warm_run.go and transfer.go how warm fetches and shows it, and checksums.go what
// mount --verify goes by. Everything else is in the rooms that this one puts together: a source
// (tilecache/source/localdir), a catalogue of it, a cache, a tree of stores (synth), points of them
// (synth/sample), judgements of tiles (synth/audit) and a front door (vfs/fusefs).
//
// # What it promises to scripts
//
// Results go to standard output, everything else to standard error. A failure is one line,
// "tesserafs: mount: what, where, what to do", and an exit code: 0 done, 1 failed, 2 bad usage,
// 3 source unreachable, 4 data found wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

func run() int {
	// The first of these signals asks for an end; after it they do what they do by default, so a
	// second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	return execute(ctx, rootCommand())
}

// execute runs a command and returns its exit code.
func execute(ctx context.Context, root *cobra.Command) int {
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	who := root.Name()
	if cmd != root {
		who += ": " + cmd.Name()
	}
	if !errors.Is(err, errSaid) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", who, oneLine(err.Error()))
	}
	return codeOf(err)
}

// oneLine joins the lines of a message; errors of several causes have one each.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tesserafs",
		Short: "Show a TESSERA tile archive as Zarr stores that were never written",
		Long: `tesserafs shows a TESSERA tile archive (one NPY of embeddings, one of scales and one
landmask a tile) as Zarr stores that were never written: the bytes are made as they are read.

  tesserafs demo --dir archive          write a small synthetic archive
  mkdir stores
  tesserafs mount archive stores        show it, until Ctrl-C

` + exitHelp,
		Version:       buildVersion(),
		SilenceErrors: true, // printed in execute
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("name a command, such as mount: see 'tesserafs --help'")
			}
			hint := "see 'tesserafs --help'"
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean " + strings.Join(near, " or ") + "?"
			}
			return usageError("there is no command %q: %s", args[0], hint)
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // not reached: Args returns an error
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w: see '%s --help'", err, cmd.CommandPath())
	})
	root.SetVersionTemplate("tesserafs {{.Version}}\n")
	root.AddCommand(
		mountCommand(), unmountCommand(), statusCommand(), infoCommand(), pointsCommand(), verifyCommand(), warmCommand(),
		doctorCommand(), demoCommand(), versionCommand(), manCommand(),
	)
	return root
}

// arguments asks for as many as there are names; those in brackets may be left out.
func arguments(names ...string) cobra.PositionalArgs {
	least := len(names)
	for least > 0 && strings.HasPrefix(names[least-1], "[") {
		least--
	}
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= len(names) {
			return nil
		}
		wants := strings.Join(names, " ")
		if wants == "" {
			wants = "nothing"
		}
		return usageError("takes %s, got %d arguments: see '%s --help'", wants, len(args), cmd.CommandPath())
	}
}
