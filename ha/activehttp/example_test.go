package activehttp_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activehttp"
)

// A service on each member, of which the Active serves the requests, wherever they come to.
func ExampleHandler() {
	dir, _ := os.MkdirTemp("", "baton")
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	service := httptest.NewUnstartedServer(nil)
	node, err := ha.Open(ha.Config{
		Name: "a", Dir: dir, Cluster: "shop", Members: []ha.Member{{Name: "a", Addr: l.Addr().String()}}, Listener: l,
		Advertise: "http://" + service.Listener.Addr().String(), // where the others send clients to
		Logger:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()

	service.Config.Handler = &activehttp.Handler{
		Node: node,
		Wait: 30 * time.Second, // for an Active, if there is none just now
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token := activehttp.Token(r.Context())
			index, err := node.Append(r.Context(), token, []byte(r.URL.Path))
			fmt.Fprintln(w, "record", index, err)
		}),
	}
	service.Start()
	defer service.Close()

	response, err := http.Get(service.URL + "/buy")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	fmt.Print(string(answer))
	// Output: record 1 <nil>
}
