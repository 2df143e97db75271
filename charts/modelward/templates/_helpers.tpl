{{/* The labels of every object of the chart. Argument: the root context. */}}
{{- define "modelward.labels" -}}
app.kubernetes.io/name: modelward
app.kubernetes.io/part-of: modelward
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The labels by which a process's pods are chosen; they never change. Argument: the process's name. */}}
{{- define "modelward.selector" -}}
app.kubernetes.io/name: modelward
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/*
The Deployment and the PodDisruptionBudget of a process.
Argument: dict with root, process (its name), values (replicas, resources), image, env (name: value), ports (name:
number; `http` serves health and metrics), volumes (a list of name, path and source; or none).
*/}}
{{- define "modelward.process" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: modelward-{{ .process }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "modelward.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .process }}
spec:
  replicas: {{ .values.replicas }}
  revisionHistoryLimit: 3
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      {{- include "modelward.selector" .process | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "modelward.selector" .process | nindent 8 }}
        app.kubernetes.io/part-of: modelward
    spec:
      serviceAccountName: modelward-{{ .process }}
      automountServiceAccountToken: true
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        seccompProfile: {type: RuntimeDefault}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "modelward.selector" .process | nindent 14 }}
      containers:
        - name: {{ .process }}
          image: {{ .image }}
          imagePullPolicy: IfNotPresent
          command: [modelward-{{ .process }}]
          env:
            - name: MODELWARD_NAMESPACE
              valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
            - name: POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- range $name, $value := .env }}
            - {name: {{ $name }}, value: {{ $value | quote }}}
            {{- end }}
          ports:
            {{- range $name, $port := .ports }}
            - {name: {{ $name }}, containerPort: {{ $port }}}
            {{- end }}
          startupProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 1
            timeoutSeconds: 2
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 2
            timeoutSeconds: 2
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- range .volumes }}
            - {name: {{ .name }}, mountPath: {{ .path }}}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 64Mi}
        {{- range .volumes }}
        - name: {{ .name }}
          {{- toYaml .source | nindent 10 }}
        {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: modelward-{{ .process }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "modelward.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .process }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "modelward.selector" .process | nindent 6 }}
{{- end }}
