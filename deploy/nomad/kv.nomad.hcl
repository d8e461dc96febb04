# A cluster of three on Nomad:
#
#	nomad job run -var 'members=n1=10.0.0.1:7000,n2=10.0.0.2:7000,n3=10.0.0.3:7000' deploy/nomad/kv.nomad.hcl
#
# Each of three clients of Nomad has a host volume, which belongs to the user of the image:
#
#	mkdir -m 700 /srv/kv && chown 65532:65532 /srv/kv
#	client {
#	  max_kill_timeout = "60s"
#	  host_volume "kv" { path = "/srv/kv" }
#	}
#
# A member has the name of its client, and stays there with its volume. Its members find, elect and replace each other themselves: Nomad's servers
# may be down. Replace the image by your own.

variable "members" {
  type        = string
  description = "all members: the names of the clients with a volume, and where their members are reached"
}

variable "image" {
  type    = string
  default = "kv:latest"
}

job "kv" {
  type = "service"

  # One at a time, and the next when the last one has caught up.
  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "5s"
    healthy_deadline  = "5m"
    progress_deadline = "10m"
  }

  group "members" {
    count = 3

    # Two members on one host are one.
    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    # A client that Nomad's servers do not reach goes on: whether it counts is for the members to decide.
    disconnect {
      lost_after = "24h"
      replace    = false
    }

    # One that ends is started again where its volume is, as often as it takes.
    restart {
      attempts = 10
      interval = "1m"
      delay    = "2s"
      mode     = "delay"
    }

    network {
      mode = "host"
      port "members" { static = 7000 }
      port "http" { static = 8080 }
    }

    volume "data" {
      type   = "host"
      source = "kv"
    }

    # Out of the services first; then comes the signal.
    shutdown_delay = "3s"

    # Any member that follows: what changes something is carried to the Active.
    service {
      name     = "kv"
      port     = "http"
      provider = "consul"

      check {
        name     = "follows"
        type     = "http"
        path     = "/admin/readyz"
        interval = "2s"
        timeout  = "2s"
      }
      # A cluster without a majority is no reason to restart anybody; a loop that stands still is.
      check {
        name      = "runs"
        type      = "http"
        path      = "/admin/healthz"
        interval  = "10s"
        timeout   = "5s"
        on_update = "ignore"
        check_restart {
          limit = 6
          grace = "60s"
        }
      }
    }

    # The Active alone.
    service {
      name     = "kv-active"
      port     = "http"
      provider = "consul"

      check {
        name      = "active"
        type      = "http"
        path      = "/admin/active"
        interval  = "2s"
        timeout   = "2s"
        on_update = "ignore"
      }
    }

    task "kv" {
      driver = "docker"

      config {
        image           = var.image
        network_mode    = "host"
        ports           = ["members", "http"]
        readonly_rootfs = true
        cap_drop        = ["all"]
      }

      env {
        BATON_NAME    = "${node.unique.name}"
        BATON_MEMBERS = var.members
        BATON_CLUSTER = "kv"
        # For nomad alloc exec ALLOC /baton status, and the like.
        BATON_ADDR = "127.0.0.1:7000"
      }

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

      # SIGTERM hands the role over before anything ends; that takes less than 20 s.
      kill_signal  = "SIGTERM"
      kill_timeout = "45s"

      # No limit of the processor: one that is throttled misses its heartbeats.
      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
