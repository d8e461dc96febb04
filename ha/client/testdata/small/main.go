package main

import (
	"context"
	"fmt"

	"github.com/baton-ha/baton/ha/client"
)

func main() {
	c, err := client.Dial(context.Background(), client.Config{Cluster: "jobs", Addrs: []string{"localhost:7000"}})
	if err != nil {
		panic(err)
	}
	for e, err := range c.Subscribe(context.Background(), 1) {
		fmt.Println(e, err)
	}
}
