//! Services, ServiceAccounts and volumes: the same for every component.

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{
            PersistentVolumeClaim, PersistentVolumeClaimSpec, Service, ServiceAccount, ServicePort, ServiceSpec,
            VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use super::{
    metadata::{self, Strings},
    pod::Pod,
    pod_template,
};
use crate::{
    names::Component,
    objects::{ApplyPolicy, DesiredObject},
    stack::{Stack, Volume},
};

/// The Service of a component. Its port and the container's port have the same name.
pub(super) fn service(stack: &Stack, component: Component, port: i32, port_name: &str) -> DesiredObject {
    DesiredObject::own(&Service {
        metadata: metadata::owned(stack, component, stack.child(component)),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some(port_name.to_owned()),
                port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(port_name.to_owned())),
                ..ServicePort::default()
            }]),
            selector: Some(metadata::selector_labels(stack, component)),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

/// The ServiceAccount of a component: without a token, so that a pod cannot talk to the API server.
pub(super) fn account(stack: &Stack, component: Component, annotations: &Strings) -> DesiredObject {
    let mut metadata = metadata::owned(stack, component, stack.child(component));
    metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    DesiredObject::own(&ServiceAccount {
        automount_service_account_token: Some(false),
        metadata,
        ..ServiceAccount::default()
    })
}

/// The single pod of an embedded service. Its name does not change, and there are never two of it on one volume.
pub(super) fn stateful_set(stack: &Stack, pod: Pod<'_>) -> DesiredObject {
    let component = pod.component;
    DesiredObject::own(&StatefulSet {
        metadata: metadata::owned(stack, component, stack.child(component)),
        spec: Some(StatefulSetSpec {
            // The default waits for a pod that is not ready before it replaces it: one that can never be, for a wrong image
            // say, would stay after the spec was corrected (kubernetes/kubernetes#67250).
            pod_management_policy: Some("Parallel".to_owned()),
            replicas: Some(i32::from(!stack.asleep)),
            revision_history_limit: Some(5),
            selector: metadata::selector(stack, component),
            service_name: Some(stack.child(component)),
            template: pod_template::shaped(stack, component, pod.template(stack)),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    })
}

/// The volume of an embedded service. It stays when the stack is deleted.
pub(super) fn volume(stack: &Stack, component: Component, volume: &Volume) -> DesiredObject {
    let size = Quantity(volume.size.clone());
    let mut metadata = metadata::retained(stack, component, stack.child(component));
    metadata.annotations.get_or_insert_default().extend(volume.annotations.clone());
    let claim = PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), size)].into()),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: volume.class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    };
    DesiredObject::new(&claim, ApplyPolicy::Retain)
}
