package cmdline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// This file makes backups, and clusters of what is left of others.

func backupCommand() *cli.Command {
	return &cli.Command{
		Name: "backup", Usage: "write a backup of the cluster to a file, or with - to the standard output", ArgsUsage: "FILE", Category: "Directories",
		Description: "It is made by a member that is not Active, if there is one, and verified as it comes; the cluster goes on. FILE is there only when it is\n" +
			"whole. It has no limit of time.\n\n" +
			"Examples:\n\n" +
			"    baton backup jobs.baton\n" +
			"    baton backup - | ssh elsewhere 'cat >jobs.baton'",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "member", Usage: "have it made by the member `NAME`: the Active has everything that was acknowledged before"},
			&cli.BoolFlag{Name: "force", Usage: "overwrite FILE"},
		},
		Action: runBackup,
	}
}

func runBackup(ctx context.Context, c *cli.Command) error {
	args, err := words(c, 1, 1)
	if err != nil {
		return err
	}
	path := args[0]
	if path == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
		return usage("a backup is no text: send the standard output somewhere else than to a terminal")
	}
	if _, err := os.Lstat(path); err == nil && path != "-" && !c.Bool("force") {
		return fmt.Errorf("backup: %s: %w", path, fs.ErrExist)
	}
	o, err := dial(ctx, c, true)
	if err != nil {
		return err
	}
	defer o.Close()
	if path == "-" {
		return saveBackup(ctx, c, o, os.Stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return usage("backup: %w", err)
	}
	err = errors.Join(saveBackup(ctx, c, o, f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// saveBackup writes a backup to w. What is written is read as it comes: what is no backup is never taken for one.
func saveBackup(ctx context.Context, c *cli.Command, o *client.Client, w io.Writer) error {
	b := newBar("backup", -1)
	defer b.end()
	from, to := io.Pipe()
	read := make(chan error, 1)
	var info ha.BackupInfo
	go func() {
		var err error
		info, err = ha.ReadBackup(ctx, from)
		if err == nil {
			_, err = io.Copy(io.Discard, from)
		}
		from.CloseWithError(err)
		read <- err
	}()
	size, err := o.Backup(ctx, c.String("member"), io.MultiWriter(w, to, b))
	to.CloseWithError(err)
	if wrong := <-read; err == nil {
		err = wrong
	}
	if err != nil {
		return reached(err)
	}
	b.end()
	note("%s of %s by %s: record %d in epoch %d, %d members", bytesOf(size), info.Cluster, info.Member, info.Index, info.Epoch, len(info.Members))
	return nil
}

// verifyBackup reads a backup to its end.
func verifyBackup(ctx context.Context, c *cli.Command, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := newBar("verify", size)
	info, err := ha.ReadBackup(ctx, b.reading(bufio.NewReaderSize(f, 1<<20)))
	if b.end(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if c.Bool("json") {
		return printJSON(out(c), struct {
			Cluster string    `json:"cluster"`
			Member  string    `json:"member"`
			Time    time.Time `json:"time"`
			Epoch   uint64    `json:"epoch"`
			Index   uint64    `json:"index"`
			First   uint64    `json:"first"`
			State   int64     `json:"state_bytes"`
		}{info.Cluster, info.Member, info.Time, info.Epoch, info.Index, info.First, info.State}, "  ")
	}
	_, err = fmt.Fprintf(out(c), "a whole backup of %s by %s, %s: record %d in epoch %d, %d members\n", info.Cluster, info.Member, info.Time.Format(time.DateTime), info.Index, info.Epoch, len(info.Members))
	return err
}

// newClusterFlags say what restore and recover make.
func newClusterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dir", Usage: "make it in `DIR`, which must be absent or empty"},
		&cli.StringFlag{Name: "name", Usage: "its only member is `NAME`"},
		&cli.Uint64Flag{Name: "epoch-above", Usage: "its epochs must be above `N`, beside what is known; needed only where the clock was wrong"},
	}
}

// newCluster is what the flags say. The name of the cluster is -cluster's, or else that of the old one.
func newCluster(c *cli.Command, old string) (ha.NewCluster, error) {
	n := ha.NewCluster{Dir: c.String("dir"), Name: c.String("name"), Cluster: cmpOr(c.String("cluster"), old), EpochAbove: c.Uint64("epoch-above"), Logger: slog.New(slog.DiscardHandler)}
	if n.Dir == "" || n.Name == "" {
		return n, usage("%s: -dir DIR and -name NAME say what to make", c.FullName())
	}
	return n, nil
}

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "make the directory of the only member of a new cluster of a backup", ArgsUsage: "FILE", Category: "Directories",
		Description: "FILE is read to its end and verified; - is the standard input. Without -cluster the new cluster has the name of the old one, whose members it\n" +
			"refuses all the same. Then start a member with that directory, named alone in Config.Members, and add others.\n\n" +
			"Example:\n\n" +
			"    baton restore -dir /var/lib/jobs -name a jobs.baton",
		Flags: newClusterFlags(),
		Action: func(ctx context.Context, c *cli.Command) error {
			args, err := words(c, 1, 1)
			if err != nil {
				return err
			}
			if _, err := newCluster(c, "any"); err != nil {
				return err
			}
			in, size := os.Stdin, int64(-1)
			if args[0] != "-" {
				if in, err = os.Open(args[0]); err != nil {
					return err
				}
				defer in.Close()
				if info, err := in.Stat(); err == nil {
					size = info.Size()
				}
			}
			r := bufio.NewReaderSize(in, 1<<20)
			name := c.String("cluster")
			if name == "" && args[0] != "-" {
				old, err := clusterOf(ctx, in)
				if err != nil {
					return err
				}
				name = old
			}
			to, err := newCluster(c, name)
			if err == nil && to.Cluster == "" {
				err = usage("%s: -cluster NAME is needed with the standard input", c.FullName())
			}
			if err != nil {
				return err
			}
			b := newBar("restore", size)
			info, err := ha.Restore(ctx, b.reading(r), to)
			if b.end(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(out(c), "%s has the only member of a new cluster %s: %s, with record %d of %s and epochs above %d\n", to.Dir, to.Cluster, to.Name, info.Index, info.Cluster, info.Epoch)
			return err
		},
	}
}

// clusterOf reads a backup, which verifies it, and then goes back to its beginning.
func clusterOf(ctx context.Context, f *os.File) (string, error) {
	info, err := ha.ReadBackup(ctx, bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return "", err
	}
	_, err = f.Seek(0, io.SeekStart)
	return info.Cluster, err
}

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name: "recover", Usage: "make a new cluster of what one member has left, when the majority is lost for good", ArgsUsage: "OLD_DIR", Category: "Directories",
		Description: "The last resort. Without -yes it only says what is left in OLD_DIR and what is missing: look at all members that are left, and take the one\n" +
			"with the highest term and then the highest record. Make sure that no other member of the old cluster runs, or ever will. OLD_DIR is not\n" +
			"changed; keep it.\n\n" +
			"Examples:\n\n" +
			"    baton recover /var/lib/jobs\n" +
			"    baton recover -yes -dir /var/lib/jobs2 -name a /var/lib/jobs",
		Flags: append(newClusterFlags(), &cli.BoolFlag{Name: "yes", Usage: "do it"}),
		Action: func(ctx context.Context, c *cli.Command) error {
			args, err := words(c, 1, 1)
			if err != nil {
				return err
			}
			if !c.Bool("yes") {
				left, err := ha.Survey(ctx, args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(out(c), "%s has records up to %d, raft term %d, epoch %d, by %s of %s\n%s\nNothing was written: -yes -dir DIR -name NAME does it.\n",
					args[0], left.Index, left.Term, left.Epoch, left.Member, left.Cluster, left.Missing())
				return err
			}
			if _, err := newCluster(c, "any"); err != nil {
				return err
			}
			left, err := ha.Survey(ctx, args[0])
			if err != nil {
				return err
			}
			to, err := newCluster(c, left.Cluster)
			if err != nil {
				return err
			}
			if left, err = ha.Recover(ctx, args[0], to); err != nil {
				return err
			}
			_, err = fmt.Fprintf(out(c), "%s has the only member of a new cluster %s: %s, with records up to %d\n%s\n", to.Dir, to.Cluster, to.Name, left.Index, left.Missing())
			return err
		},
	}
}
