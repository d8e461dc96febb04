// Hello is a service of three copies that survives the loss of any one of them: whoever is Active counts, all say what was counted.
// Start it in three terminals, with the names a, b and c, end the one that counts, and start it again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

func run(name string) error {
	node, err := ha.Open(ha.Config{
		Name: name, Dir: "hello-" + name, Cluster: "hello",
		Members: []ha.Member{{Name: "a", Addr: "127.0.0.1:7001"}, {Name: "b", Addr: "127.0.0.1:7002"}, {Name: "c", Addr: "127.0.0.1:7003"}},
		OnActive: func(ctx context.Context, t fence.Token) error { // on one copy at a time
			for ctx.Err() == nil {
				record := fmt.Sprintf("%s counts, with the token %v", name, t)
				if _, err := ha.FromContext(ctx).Append(ctx, t, []byte(record)); err != nil {
					return err
				}
				time.Sleep(time.Second)
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	defer node.Close()
	for e, err := range node.Subscribe(context.Background(), 1) { // on every copy: 1, 2, 3 …
		if err != nil {
			return err
		}
		fmt.Println(e.Index, string(e.Data))
	}
	return nil
}

func main() {
	name := flag.String("name", "a", "a, b or c")
	flag.Parse()
	if err := run(*name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
