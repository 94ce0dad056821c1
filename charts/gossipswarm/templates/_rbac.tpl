{{/* A Role or ClusterRole. Takes kind, name, namespace (of a Role), rules, labels. */}}
{{- define "gossipswarm.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- .labels | nindent 4 }}
rules: {{- toYaml .rules | nindent 2 }}
{{- end -}}

{{/* Gives a role to the operator, in one namespace if there is one. Takes kind and name of the role, namespace, subjects, labels. */}}
{{- define "gossipswarm.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if .namespace }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- .labels | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects: {{- toYaml .subjects | nindent 2 }}
{{- end -}}
