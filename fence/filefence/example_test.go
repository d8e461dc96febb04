package filefence_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/filefence"
)

func ExampleFile() {
	dir, err := os.MkdirTemp("", "shared") // of a file system that all members mount
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	write := func(t fence.Token, text string) {
		f, err := filefence.NewFile(dir)
		if err == nil {
			_, err = f.Replace(ctx, t, strings.NewReader(text))
		}
		fmt.Println(t.Holder, err)
	}
	write(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}, "by a")
	write(fence.Token{Cluster: "jobs", Epoch: 8, Holder: "b"}, "by b")
	write(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}, "by a, who was asleep")

	f, err := filefence.NewFile(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := f.Open(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	fmt.Printf("%s, of %s, %v\n", text, r.Token, err)
	// Output:
	// a <nil>
	// b <nil>
	// a fence: token jobs/7/a is stale: jobs/8/b has been here
	// by b, of jobs/8/b, <nil>
}
