{{/*
A pod of `helm test` that runs a script of this chart with the agent's image. Takes root, name, script, namespace,
env; tokens (Secret to mount) and ca (Secret with ca.crt, where the API speaks TLS) if there are any.
*/}}
{{- define "gossipswarm.test" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "gossipswarm.fullname" .root }}-test-{{ .name }}
  namespace: {{ .namespace }}
  labels:
    app.kubernetes.io/name: gossipswarm-test
    app.kubernetes.io/instance: {{ .root.Release.Name }}
    app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  activeDeadlineSeconds: {{ add .root.Values.test.timeoutSeconds 120 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- include "gossipswarm.podSecurityContext" .root | nindent 4 }}
  containers:
    - name: test
      image: {{ include "gossipswarm.agentImage" .root }}
      imagePullPolicy: {{ .root.Values.agentImage.pullPolicy }}
      command: [python3, -u, -c]
      args:
        - {{ .root.Files.Get (printf "files/%s" .script) | toJson }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: TIMEOUT_SECONDS
          value: {{ .root.Values.test.timeoutSeconds | quote }}
        {{- toYaml .env | nindent 8 }}
        {{- if .ca }}
        - name: SWARM_SCHEME
          value: https
        - name: SWARM_CA_FILE
          value: /ca/ca.crt
        {{- end }}
      resources:
        requests:
          cpu: 10m
          memory: 32Mi
        limits:
          memory: 128Mi
      securityContext: {{- include "gossipswarm.securityContext" .root | nindent 8 }}
      {{- if .tokens }}
      volumeMounts:
        - name: tokens
          mountPath: /tokens
          readOnly: true
        {{- if .ca }}
        - name: ca
          mountPath: /ca
          readOnly: true
        {{- end }}
  volumes:
    - name: tokens
      secret:
        secretName: {{ .tokens }}
        defaultMode: 0440
    {{- if .ca }}
    - name: ca
      secret:
        secretName: {{ .ca }}
        items: [{key: ca.crt, path: ca.crt}]
        defaultMode: 0440
    {{- end }}
      {{- end }}
{{- end -}}
