# From nothing to a namespace that moves: run in this folder, with `meridian` on the path and both servers started by
#
#   meridian certs issue --dir certs --clusters west,east
#   meridian server --config west.yaml
#   meridian server --config east.yaml
export TEMPORAL_TLS_SERVER_CA_CERT_PATH=certs/ca.pem
export TEMPORAL_TLS_CLIENT_CERT_PATH=certs/west.pem
export TEMPORAL_TLS_CLIENT_KEY_PATH=certs/west.key
meridian cluster upsert --address 127.0.0.1:7233 --frontend-address 127.0.0.1:7333
meridian cluster upsert --address 127.0.0.1:7333 --frontend-address 127.0.0.1:7233
meridian cluster list --address 127.0.0.1:7233
meridian namespace register --address 127.0.0.1:7233 --namespace orders --clusters west,east --active-cluster west
# East hears of the namespace within a moment; until then its state is unknown, and the command says so and ends with 1.
until meridian replication status --address 127.0.0.1:7233; do sleep 1; done
meridian namespace switchover --address 127.0.0.1:7233 --namespace orders --to east --max-pause 5s --dry-run
meridian namespace switchover --address 127.0.0.1:7233 --namespace orders --to east --max-pause 5s
meridian dlq list --address 127.0.0.1:7333
